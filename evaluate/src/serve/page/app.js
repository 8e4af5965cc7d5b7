'use strict';
addEventListener('error',event=>{document.documentElement.dataset.error=event.message});
addEventListener('unhandledrejection',event=>{document.documentElement.dataset.error=String(event.reason)});
const $=id=>document.getElementById(id);
const form=$('filter'),canvas=$('map'),pen=canvas.getContext('2d');
const PAGE=120,HUES=[[36,80,196],[217,104,19],[27,138,82],[150,60,190],[200,50,110],[11,131,150],[140,120,20],[120,120,130]];
let source='',about={},points=[],lasso=[],drawing=false,shown=0,total=0,loading=0;

const get=async path=>{
  const answer=await fetch(path),body=await answer.json();
  if(!answer.ok)throw new Error(body.error||answer.statusText);
  return body;
};
const words=text=>String(text).replaceAll('_',' ');
const options=(select,list,chosen)=>{
  const any=select.querySelector('option[value=""]');
  select.replaceChildren(...(any?[any]:[]),...list.map(([value,label])=>new Option(label,value,false,String(value)===chosen)));
};

// Filters.
const parameters=()=>{
  const found=new URLSearchParams();
  for(const [name,value] of new FormData(form))if(value!=='')found.set(name,value);
  if(lasso.length>2){found.set('map',$('maps').value);found.set('lasso',lasso.map(([x,y])=>x.toFixed(4)+','+y.toFixed(4)).join(';'))}
  return found;
};
const load=async afresh=>{
  const turn=++loading;
  if(afresh)shown=0;
  const asked=parameters();
  asked.set('offset',shown);asked.set('limit',PAGE);
  const found=await get('/api/grid/'+encodeURIComponent(source)+'?'+asked);
  // A later filter has overtaken this one.
  if(turn!==loading)return;
  if(afresh){
    $('grid').replaceChildren();
    const counted=(name,list,text)=>options(form.elements[name],list.map(([value,count])=>[value,text(value)+' ('+count.toLocaleString()+')']),form.elements[name].value);
    counted('reason',found.reasons,words);counted('cluster',found.clusters,String);counted('class',found.classes,String);
  }
  total=found.total;shown+=found.rows.length;
  $('grid').append(...found.rows.map(tile));
  $('total').textContent=total.toLocaleString()+' of '+about.images.toLocaleString()+' images';
  $('end').textContent=total===0?'No image passes these filters.':shown<total?'':'All '+total.toLocaleString()+' are shown.';
  document.documentElement.dataset.total=total;
  document.documentElement.dataset.ready='1';
};
const tile=row=>{
  const figure=document.createElement('figure'),button=document.createElement('button'),img=document.createElement('img'),caption=document.createElement('figcaption');
  const label=[row.rank===null?words(row.reason):'rank '+row.rank,row.class].filter(Boolean).join(', ');
  figure.className=row.rank===null?'out':'';
  img.src=thumb(row.id,160);img.loading='lazy';img.alt=label;
  button.type='button';button.append(img);button.addEventListener('click',()=>open(row.id));
  caption.textContent=label;caption.title=label;
  figure.append(button,caption);
  return figure;
};
const thumb=(id,px)=>'/thumb/'+encodeURIComponent(source)+'/'+id+'?px='+px;

// One image, beside what it is a copy of.
const open=async id=>{
  const facts=await get('/api/image/'+encodeURIComponent(source)+'/'+id);
  const side=(id,label)=>{
    const figure=document.createElement('figure'),img=document.createElement('img');
    img.src=thumb(id,768);img.alt=label;
    figure.append(img,document.createElement('br'),label);
    return figure;
  };
  $('title').textContent='Image '+id;
  $('shown').replaceChildren(side(id,facts.duplicate_of?'this image':words(facts.reason||'')));
  if(facts.duplicate_of)$('shown').append(side(facts.duplicate_of,'what it is a copy of'));
  $('facts').replaceChildren(...Object.entries(facts).filter(([,value])=>value!==null&&value!==undefined&&String(value)!=='').flatMap(([name,value])=>{
    const dt=document.createElement('dt'),dd=document.createElement('dd');
    dt.textContent=words(name);dd.textContent=Array.isArray(value)?value.join(', '):words(value);
    return [dt,dd];
  }));
  if(!$('viewer').open)$('viewer').showModal();
};
$('close').addEventListener('click',()=>$('viewer').close());

// The map.
// On a dark ground colours are lighter.
const tint=([r,g,b])=>matchMedia('(prefers-color-scheme: dark)').matches?[r,g,b].map(level=>Math.round(level+(255-level)*.45)):[r,g,b];
const colour=point=>point[3]>=0?point[3]:point[2];
// Points are drawn once; a lasso is drawn over a copy of them.
const ground=document.createElement('canvas');
const drawPoints=()=>{
  const {width,height}=canvas,byClass=points.some(point=>point[3]>=0),on=ground.getContext('2d');
  ground.width=width;ground.height=height;
  const size=points.length>5000?2:points.length>800?4:6;
  for(const point of points){
    const [r,g,b]=tint(HUES[(byClass?colour(point):point[2])%HUES.length]);
    on.fillStyle='rgba('+r+','+g+','+b+',.75)';
    on.fillRect(point[0]*width-size/2,(1-point[1])*height-size/2,size,size);
  }
  const names=byClass?about.classes:about.reasons.map(words);
  $('colours').replaceChildren(...names.slice(0,40).map((name,i)=>{
    const li=document.createElement('li'),dot=document.createElement('i');
    dot.style.background='rgb('+tint(HUES[i%HUES.length])+')';li.append(dot,name);
    return li;
  }));
  draw();
};
const draw=()=>{
  const {width,height}=canvas;
  pen.clearRect(0,0,width,height);
  if(ground.width&&ground.height)pen.drawImage(ground,0,0);
  if(lasso.length>1){
    pen.beginPath();lasso.forEach(([x,y],i)=>pen[i?'lineTo':'moveTo'](x*width,(1-y)*height));
    if(!drawing)pen.closePath();
    pen.lineWidth=3;pen.strokeStyle=getComputedStyle(document.body).color;pen.setLineDash([8,5]);pen.stroke();pen.setLineDash([]);
  }
};
const map=async()=>{
  const name=$('maps').value;
  // Of a million images a map takes a while when it is first made; the grid does not wait for it.
  $('lasso').textContent=name?'The map is being made.':'There is no map of this source.';
  points=name?(await get('/api/map/'+encodeURIComponent(source)+'?name='+encodeURIComponent(name))).points:[];
  if(name)$('lasso').textContent='Draw around points to filter the grid.';
  document.documentElement.dataset.points=points.length;
  drawPoints();
};
matchMedia('(prefers-color-scheme: dark)').addEventListener('change',drawPoints);
const place=event=>{const box=canvas.getBoundingClientRect();return [(event.clientX-box.left)/box.width,1-(event.clientY-box.top)/box.height]};
canvas.addEventListener('pointerdown',event=>{drawing=true;lasso=[place(event)];canvas.setPointerCapture(event.pointerId)});
canvas.addEventListener('pointermove',event=>{
  if(!drawing)return;
  const next=place(event),last=lasso[lasso.length-1];
  if(Math.hypot(next[0]-last[0],next[1]-last[1])>.008&&lasso.length<600){lasso.push(next);draw()}
});
const drawn=()=>{
  if(!drawing)return;
  drawing=false;
  if(lasso.length<3)lasso=[];
  $('clear').hidden=lasso.length===0;
  draw();load(true);
};
canvas.addEventListener('pointerup',drawn);canvas.addEventListener('pointercancel',drawn);
const clear=()=>{lasso=[];$('clear').hidden=true;draw()};
$('clear').addEventListener('click',()=>{clear();load(true)});
canvas.addEventListener('keydown',event=>{if(event.key==='Escape'){clear();load(true)}});
$('maps').addEventListener('change',async()=>{clear();await map();load(true)});
form.addEventListener('change',()=>load(true));
form.addEventListener('reset',()=>setTimeout(()=>{clear();load(true)}));
form.addEventListener('submit',event=>event.preventDefault());
new IntersectionObserver(entries=>{if(entries[0].isIntersecting&&shown>0&&shown<total)load(false)},{rootMargin:'600px'}).observe($('end'));

// The source.
const show=async name=>{
  source=name;
  about=await get('/api/source/'+encodeURIComponent(source));
  document.title='Lapidary: '+source;
  lasso=[];form.reset();
  options(form.elements.subset,about.subsets.map(([name,count])=>[name,name+' ('+count.toLocaleString()+')']),'');
  options($('maps'),about.maps.map(name=>[name,name]),about.maps[0]);
  $('report').hidden=!about.report;$('report').href='/report/'+encodeURIComponent(source);
  await Promise.all([load(true),map()]);
};
(async()=>{
  const sources=await get('/api/sources'),wanted=new URLSearchParams(location.search).get('source');
  const first=sources.includes(wanted)?wanted:sources[0];
  options($('source'),sources.map(name=>[name,name]),first);
  $('source').addEventListener('change',event=>show(event.target.value));
  await show(first);
})();
